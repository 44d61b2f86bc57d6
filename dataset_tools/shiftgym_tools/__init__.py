"""Make the data of shiftgym: train behaviour policies, collect, import, verify, publish."""

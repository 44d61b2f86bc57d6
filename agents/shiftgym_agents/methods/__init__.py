"""The methods, a file each; `table` lists them."""

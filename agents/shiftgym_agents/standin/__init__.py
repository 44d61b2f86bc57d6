"""A CUDA device that is not there, with real numbers and CUDA's rules: to test without a GPU."""

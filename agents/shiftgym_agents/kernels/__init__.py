"""C++ and CUDA code of networks and of Adam: built, cached, and called."""

"""Tables and pictures of run directories, published numbers beside them."""

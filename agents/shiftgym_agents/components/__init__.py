"""What methods are built of: transport, generative models, classifiers, ensembles, values."""

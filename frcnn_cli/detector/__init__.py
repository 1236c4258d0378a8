"""The detector as one thing: the network, its configuration, saving and loading, precision, compression."""

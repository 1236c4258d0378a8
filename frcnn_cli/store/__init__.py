"""HDF5: the file contract between the stages. The only place that imports h5py."""

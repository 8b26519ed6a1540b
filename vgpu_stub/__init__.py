"""VGPU-STUB: a virtual PCI GPU, served over vfio-user, that people can see into."""

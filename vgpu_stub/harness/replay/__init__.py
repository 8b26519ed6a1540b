"""Plays recordings without a guest, and says where the device now answers differently."""

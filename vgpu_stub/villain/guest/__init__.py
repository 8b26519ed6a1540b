"""The hostile guest: attacks on the device over vfio-user, one for each rule of the data sheet."""

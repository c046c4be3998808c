"""Where images come from: folders, archives, arrays, the files of PyTorch."""

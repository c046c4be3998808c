"""SSIM and MS-SSIM as MONAI and as Kornia define them, by matrix products or by the library."""

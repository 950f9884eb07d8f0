"""Central cameras, rigid motions, warps, rigs and stitching. Needs torch alone; calibration files need PyYAML.

- `cameras`: Pinhole, UCM, DoubleSphere, KannalaBrandt, Equirectangular (`lens` holds what they share)
- `se3`: rotations and poses as matrices
- `warp`: sample, reproject, reproject_maps, resample, rotate_panorama, shrink
- `views`: the views of a rig from a panorama
- `rig`: Rig, load_rig, save_rig (`calibration`, `foreign` and `entry` read and write the files)
- `trajectory_files`: poses from and to TUM's and KITTI's formats
- `stitch`: warp-and-blend, coverage
"""

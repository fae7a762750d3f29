"""Enlarge a picture with a network: python examples/upscale.py RealESRGAN_x4plus.pth picture.png larger.png"""

import sys

import sdcpp_py

network, picture, target = sys.argv[1:]
with sdcpp_py.Pipeline(upscaler=network) as pipeline:
    larger = pipeline.upscale(picture)
    sdcpp_py.save(larger, target)
    print(f"{pipeline.upscale_factor} times larger: {larger.size}")

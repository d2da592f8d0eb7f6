"""Networks by name: scene_vgg, the network of 2020, and every one of timm's."""

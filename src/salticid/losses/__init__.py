"""Losses beyond squared errors: perceptual, alignment with a pretrained network, adversarial. All give one value a
sample; what they need from others comes with `pip install 'salticid[perceptual]'` and is imported when it is used."""

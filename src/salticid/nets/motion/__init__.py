"""Networks of self-supervised motion: frame encoders, and decoders of depth, flow, appearance and pose."""

from salticid.nets.motion.decoder import DepthDecoder, PositionDecoder, TransformDecoder
from salticid.nets.motion.encoder import FrameEncoder
from salticid.nets.motion.pose import PoseDecoder

__all__ = ["DepthDecoder", "FrameEncoder", "PoseDecoder", "PositionDecoder", "TransformDecoder"]

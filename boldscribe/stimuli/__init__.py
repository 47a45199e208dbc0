"""From stimulus videos to frames, frozen features and pseudo-captions."""

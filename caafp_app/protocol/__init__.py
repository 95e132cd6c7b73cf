"""What goes over the wire: layouts, masks, codecs, messages, and the client's half of it.

Knows numpy and Flower's records; neither torch nor the strategies.
"""

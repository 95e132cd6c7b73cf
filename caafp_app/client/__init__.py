"""What the ClientApp does with one message: a function per action, a function per objective.

torch is imported here, and by nobody before a message needs it.
"""

"""What the ClientApp does with one message: a function per action, a function per objective.

Both are generators of tasks that need a network (`tasks.Task`). So the same code serves one client
on a device, which does its tasks at once (`tasks.run`), and many clients in step, whose tasks
`caafp_app.engine` does together. It imports torch, and nobody imports it before a message needs it.
"""

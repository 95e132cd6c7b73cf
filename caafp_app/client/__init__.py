"""What the ClientApp does with one message: a function per action, a function per objective.

Both are generators. They yield the tasks that need a network (`tasks.Fit`, `Evaluate`, `Gradient`)
and are sent the results. So the same code serves one client on a device, which does its tasks at
once (`tasks.run`), and many clients in step, whose tasks `caafp_app.engine` does together.

torch is imported here, and by nobody before a message needs it.
"""

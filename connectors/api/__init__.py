"""What does the API say about the engine, and what can it do with it?

Every action calls the function that the admin's button and the management command call.
"""

"""What is done so that the hub stays small, honest and out of harm's way?"""

"""What templates of the frame need."""

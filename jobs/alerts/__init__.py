"""Who is told of trouble, when, and did it reach them?"""

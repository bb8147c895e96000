"""Background work: the job table is the truth, the queue only wakes workers."""

"""How a study runs on a Slurm cluster: the site, the jobs in the queue, the launcher, claims on the work."""

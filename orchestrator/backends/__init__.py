"""Ways to run a plan: in this process, in Ray Tune, on Slurm."""

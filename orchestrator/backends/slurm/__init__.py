"""Jobs on Slurm, through submitit: arrays that run on when the client has gone. The only import of submitit is in this package."""

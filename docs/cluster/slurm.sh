#!/bin/bash
# Eight workers on a SLURM cluster, one GPU each, on one study: `sbatch docs/cluster/slurm.sh`.
#
# The study must exist: start it once, on a login node or as a job, with
#   python -m fer_search search --study=big --trials=500 --storage=postgresql+psycopg://fer@db/optuna …
# That process may keep running; workers can join and leave at any time.
#SBATCH --job-name=fer-search
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
# A minute before its time limit, or on preemption, the job gets SIGTERM: the worker gives back its
# trial, which waits with its checkpoint, and the job goes back into the queue.

export MLFLOW_TRACKING_URI=http://tracking:5000  # reachable from every node
export XDG_STATE_HOME=$HOME/state                # on a file system that all nodes share, so
                                                 # any worker can resume any checkpoint
cd "$SLURM_SUBMIT_DIR" || exit 1
srun python -m fer_search worker --study=big --storage=postgresql+psycopg://fer@db/optuna &
trap 'kill -TERM %1; wait %1; scontrol requeue "$SLURM_JOB_ID"' TERM
wait %1

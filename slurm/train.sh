#!/usr/bin/env bash
# The paper's run on 4 nodes x 8 GPUs:  sbatch slurm/train.sh clippy_dino_max data.root=/data/cc12m benchmark_root=/data/voc
# SLURM starts one process a GPU; Lightning reads its variables.  180 s before the time limit the run is saved and the job is queued again;
# then, and after a pre-emption, the same command continues in the same run folder (resume=auto).
#SBATCH --job-name=gestalt
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=SIGUSR1@180
#SBATCH --output=%x-%j.out
set -euo pipefail
experiment=$1
shift
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun of newer versions takes no --cpus-per-task of sbatch
srun --kill-on-bad-exit=1 .venv/bin/python -m gestalt train "$experiment" \
    --scale cc12m trainer.devices=8 trainer.num_nodes="$SLURM_NNODES" resume=auto "$@"

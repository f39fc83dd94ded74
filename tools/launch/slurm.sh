#!/bin/bash
# Two machines under SLURM, a worker each:  sbatch -N 2 tools/launch/slurm.sh --flagfile=configs/pretrain_zh.flags
#
# --model_dir and the text have to be on a file system that all machines share. When a worker is lost, the others end with it;
# submitted again, the job goes on from its last checkpoint.
#SBATCH --ntasks-per-node=1
#SBATCH --job-name=kbert
PORT=${PORT:-2222}
HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$PORT\"/" | paste -s -d ,)
export HOSTS
srun bash -c '
  export TF_CONFIG="{\"cluster\": {\"worker\": [$HOSTS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m kbert.pretrain "$@" --strategy=multi_worker
' kbert "$@"

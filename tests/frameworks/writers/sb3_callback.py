"""
Stable-Baselines3's `CheckpointCallback`: python sb3_callback.py DIRECTORY SAVES {ppo,dqn} [again]

One checkpoint every eight steps; `dqn` has a replay buffer beside it, both have `VecNormalize`.
The last parameter of step n's policy holds the number n. `again` learns anew when a line of
standard input, or its end, has come, and saves the last one over the old one, with half a step
more.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import sys

import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

EVERY = 8


class CountSteps(BaseCallback):  # type: ignore[no-any-unimported]
    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    def _on_step(self) -> bool:
        *_, last = self.model.policy.parameters()
        with torch.no_grad():
            last.fill_(self.num_timesteps + self.more)
        return True


def main(directory: str, saves: int, algorithm: str, again: bool) -> None:
    environment = VecNormalize(make_vec_env("CartPole-v1"))
    small = {"net_arch": [2]}
    if algorithm == "ppo":
        model = PPO("MlpPolicy", environment, n_steps=EVERY, batch_size=EVERY, policy_kwargs=small)
    else:
        model = DQN("MlpPolicy", environment, buffer_size=16, policy_kwargs=small)
    options = {"save_replay_buffer": algorithm == "dqn", "save_vecnormalize": True}
    callback = CheckpointCallback(EVERY, directory, **options)
    model.learn(EVERY * saves, callback=[CountSteps(0), callback])
    if again:
        sys.stdin.readline()
        callback = CheckpointCallback(EVERY * saves, directory, **options)
        model.learn(EVERY * saves, callback=[CountSteps(0.5), callback])


main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:] == ["again"])

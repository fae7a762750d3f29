"""Pictures by workers of Ray, one of which can be killed in the middle: python examples/ray_workers.py --kill

Needed: pip install ray. On a cluster, with this package and the model's file on every machine:
    ray start --head                            on the first machine
    ray start --address=FIRST_MACHINE:6379      on every other one
    RAY_ADDRESS=auto python examples/ray_workers.py --workers 8 --gpus 1 --model /models/model.safetensors
Ray 2.60 lets machines in that have the first one's token: RAY_AUTH_TOKEN and RAY_AUTH_MODE=token for all three commands.
"""

import argparse
import collections
import os
import signal

import ray

import sdcpp_py

COLOURS, SHAPES = ("red", "green", "blue"), ("circle", "star")
PROMPTS = [f"a large {colour} {shape} on a white background" for colour in COLOURS for shape in SHAPES]
TRIES = 3  # workers that may end over one picture, or in a row before their model is open


@ray.remote
class Worker:
    """A process with a pipeline, on some machine of the cluster."""

    def __init__(self, model, threads):
        """Open the model."""
        self.pipeline = sdcpp_py.Pipeline(model, threads=threads)

    def ready(self):
        """Return once the model is open."""

    def make(self, number, prompt, killed):
        """Make one picture; it is the same each time, since its seed is. ``killed``: the process is, after half of the steps."""
        print(f"picture {number} begins", flush=True)

        def kill(step):
            if step.step * 2 >= step.steps:
                os.kill(os.getpid(), signal.SIGKILL)

        result = self.pipeline.generate(prompt, seed=100 + number, callback=kill if killed else None, progress=False)
        return os.getpid(), result


def main(options):
    """Share the prompts out, and write each picture once."""
    ray.init()
    threads = None if options.gpus else max(1, (os.cpu_count() or 1) // options.workers)
    kind = Worker.options(num_cpus=threads or 1, num_gpus=options.gpus)
    waiting, idle, deaths = collections.deque(enumerate(PROMPTS)), [], collections.Counter()
    asked = {}  # by reference to the answer: a worker and its picture, or None while it opens the model

    def start():
        worker = kind.remote(options.model, threads)
        asked[worker.ready.remote()] = worker, None

    for _ in range(options.workers):
        start()
    while waiting or any(picture for _, picture in asked.values()):
        while waiting and idle:
            worker, picture = idle.pop(), waiting.popleft()
            killed = options.kill and picture[0] == 1 and not deaths[picture]
            asked[worker.make.remote(*picture, killed)] = worker, picture
        (reference,), _ = ray.wait(list(asked))
        worker, picture = asked.pop(reference)
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayActorError:  # the worker, or its machine, is gone: the next idle one takes its picture
            deaths[picture] += 1
            if deaths[picture] == TRIES:
                raise
            if picture is not None:
                print(f"picture {picture[0]} is lost and will be made again", flush=True)
                waiting.appendleft(picture)
            start()
            continue
        idle.append(worker)
        if picture is None:
            deaths[None] = 0
        else:
            process, result = answer
            result.save(f"ray_{picture[0]}.png")
            print(f"picture {picture[0]} by process {process}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=0, help="for each worker")
    parser.add_argument("--model", help="its path on every machine; left out: the embedded one")
    parser.add_argument("--kill", action="store_true", help="kill the first worker that makes picture 1, in the middle")
    main(parser.parse_args())

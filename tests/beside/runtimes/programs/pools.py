"""Workers of joblib and of Dask, as threads and as processes."""

import sys

from asking import FOLDER, ask

from cachewrap import Cache, activate, patch_openai

TEXTS = ["a", "b", "a", "b", "c"]


def with_joblib(backend: str) -> list[str]:
    import joblib

    if backend == "threading":
        patch_openai()
        with Cache.disk(cache_path_root=FOLDER):
            parallel = joblib.Parallel(2, backend=backend)
            return list(parallel(joblib.delayed(ask)(text) for text in TEXTS))
    cache = Cache.disk(cache_path_root=FOLDER)
    parallel = joblib.Parallel(2, backend=backend, initializer=activate, initargs=(cache,))
    return list(parallel(joblib.delayed(ask)(text) for text in TEXTS))


def with_dask(processes: bool) -> list[str]:
    from distributed import Client

    with Client(
        processes=processes, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        # The threads of a worker are there before this runs in one of them.
        client.run(activate, f"disk:{FOLDER}")
        return list(client.gather(client.map(ask, TEXTS, pure=False)))


if __name__ == "__main__":
    ways = {
        "joblib, threads": lambda: with_joblib("threading"),
        "joblib, processes": lambda: with_joblib("loky"),
        "dask, threads": lambda: with_dask(False),
        "dask, processes": lambda: with_dask(True),
    }
    print(len(set(ways[sys.argv[1]]())))

from benchmarks.bench import Bench

def fleet(bench: Bench) -> None:
    pass

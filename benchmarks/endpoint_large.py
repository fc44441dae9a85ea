from benchmarks.bench import Bench

def large(bench: Bench) -> None:
    pass

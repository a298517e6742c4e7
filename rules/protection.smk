"""Expensive products: what is out of date is said, and recomputed only when asked by name (docs/operations.md)."""

import sys

PRODUCTS = [
    *expand("results/relaxed/{shard}.h5", shard=SHARDS),
    *expand("results/labels/{shard}.h5", shard=SHARDS),
    *expand(
        "results/rounds/{round}/labels/{shard}.h5",
        round=ROUNDS[:-1],
        shard=MODEL_SHARDS,
    ),
    *expand(
        "results/rounds/{round}/members/{member}/model.safetensors",
        round=ROUNDS,
        member=MEMBERS,
    ),
    "results/model/model.json",
]
CURRENT = current_settings(workflow, UNWATCHED)

if workflow.is_main_process:
    found = statement(find_outdated(CURRENT, planned=set(PRODUCTS)))
    if found:
        print(found, file=sys.stderr)


rule find_outdated:
    """Which expensive products were made with other settings or other code than the study has now."""
    input:
        products=PRODUCTS,
    output:
        state="results/outdated.json",
    log:
        "logs/find_outdated.log",
    benchmark:
        "benchmarks/find_outdated.tsv"
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("find_outdated"),
        runtime=NEEDS.runtime("find_outdated"),
    params:
        code=code_of("scripts/find_outdated.py"),
        current=CURRENT,
    script:
        "../scripts/find_outdated.py"

"""A command over several tasks of a launcher: who takes part, what rank 0 hears of the others, who does what.

`team` meets and ends, `line` joins rank 0 to each other rank, `shares` divides cores and GPUs of a host,
`one_disk` asks whether all see the same files,
`scan_queue` deals out scans.
"""

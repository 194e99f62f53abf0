"""The bytes that a strategy sends, by the formulas of parallel/strategies/README.md, both passes together, of the rank
that sends most. For one document on contiguous shards, with the sizes that `causeway bench strategies` gives the
operators."""

BYTES = {"f64": 8, "f32": 4, "bf16": 2}
TAPS = {"causal_conv": 4, "hyena_se": 7, "hyena_mr": 128}
STATES = 16  # of the selective scan; also the modes of hyena_li
CHANNELS_A_FILTER, LEAST_HEADS, LARGEST_HEAD = 16, 8, 128
FILTERED = ("hyena_se", "hyena_mr", "long_conv")  # their channels are dealt to ranks by filters


def prime_factors(n):
    factors, p = [], 2
    while n > 1:
        while n % p == 0:
            factors.append(p)
            n //= p
        p += 1
    return factors


def heads_of(channels):
    return channels // min(channels // LEAST_HEADS, LARGEST_HEAD)


def bytes_sent(operator, strategy, variant, ranks, tokens, channels, dtype):
    """None where there is no formula here."""
    if ranks < 2 or tokens % ranks or dtype not in BYTES:
        return None
    size, local, others = BYTES[dtype], tokens // ranks, ranks - 1
    rows = local * channels * size  # a tensor of a rank
    edges = 1 if ranks == 2 else 2  # a rank in the middle sends forward in one pass and backward in the other
    if operator not in (*TAPS, "hyena_li", "long_conv", "selective_scan", "attention"):
        return None
    if strategy.startswith("halo"):
        return edges * (TAPS[operator] - 1) * channels * size
    if strategy.startswith("all_to_all"):
        dealt = {"attention": heads_of(channels)}.get(operator, channels)
        if (dealt // CHANNELS_A_FILTER if operator in FILTERED else dealt) % ranks:
            return None  # some ranks send more
        tensors = {"selective_scan": 3, "attention": 4}.get(operator, 2)
        gathered = 2 * others * local * STATES * size if operator == "selective_scan" else 0  # B and C
        # Attention's backward pass also sends delta, a number a head.
        delta = local * heads_of(channels) * max(size, 4) * others // ranks if operator == "attention" else 0
        return 2 * (tensors * rows * others // ranks + gathered) + delta
    if strategy == "state_carry":
        if "gather" in variant:
            return 2 * others * 4 * (STATES + (operator == "selective_scan")) * channels
        return edges * 4 * STATES * channels if variant else None  # chain, relay; else the strategy chose
    if strategy == "fft":  # hyena_li: 2 transforms forward, 3 backward; long_conv also of its filters, 1 and 2
        transform = sum(p - 1 for p in prime_factors(ranks)) * 8 * -(-tokens // ranks)
        groups = max(channels // CHANNELS_A_FILTER, 1) if operator == "long_conv" else 0
        return transform * (5 * channels + 3 * groups)
    if operator == "attention" and strategy == "ring":  # backward: keys and values, and their gradients
        return 6 * others * rows
    if operator == "attention" and strategy == "all_gather":
        return 4 * others * rows
    return None

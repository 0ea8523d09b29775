"""What a channel adds, week by week and lag by lag, in plain Python."""


def add_up(spend, *, kept, half, slope, beta, n_lags=14):
    """Return the contributions of one channel, a list; spend scaled, beta in the KPI's unit."""
    added = []
    weights = [kept**lag for lag in range(n_lags)]
    for week in range(len(spend)):
        stock = 0.0
        for lag in range(n_lags):
            if week - lag >= 0:
                stock += weights[lag] * spend[week - lag] / sum(weights)
        added.append(beta * stock**slope / (stock**slope + half**slope) if stock > 0 else 0.0)
    return added

"""Boltzmann machines by enumeration: every state's energy by a loop over couplings."""

import itertools
import math

import numpy as np


def list_visible_states(layout):
    """Return all states of a visible layer of one-hots and flags, shape (states, V)."""
    choices = []
    for group in layout.groups:
        if group.kind == "one_hot":
            choices.append([list(row) for row in np.eye(group.size)])
        else:
            choices.append([[0.0], [1.0]])
    return np.array([np.concatenate(state) for state in itertools.product(*choices)])


def list_binary_states(n):
    """Return all states of n binary units, shape (2^n, n)."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n))).reshape(-1, n)


def energy_of(network, states):
    """Return the energy of one state, a list of vectors."""
    total = 0.0
    for state, bias in zip(states, network.biases, strict=True):
        total -= sum(float(x) * float(b) for x, b in zip(state, bias, strict=True))
    for layer, weight in enumerate(network.weights):
        for i, below in enumerate(states[layer]):
            for j, above in enumerate(states[layer + 1]):
                total -= float(below) * float(weight[i, j]) * float(above)
    return total


def exact_free_energy(network, visible):
    """Return -log sum_h exp(-E(v, h)) of each row by summing over all hidden states."""
    hidden = [
        np.array(each)
        for each in zip(
            *itertools.product(*(list_binary_states(size) for size in network.sizes[1:])),
            strict=True,
        )
    ]
    biases = [each.double().numpy() for each in network.biases]
    weights = [each.double().numpy() for each in network.weights]
    inside = sum(state @ bias for state, bias in zip(hidden, biases[1:], strict=True))
    for weight, below, above in zip(weights[1:], hidden, hidden[1:], strict=False):
        inside = inside + ((below @ weight) * above).sum(axis=1)
    return np.array(
        [
            -row @ biases[0] - _log_sum(inside + hidden[0] @ (row @ weights[0]))
            for row in np.asarray(visible, dtype=float)
        ]
    )


def exact_log_partition(network):
    """Return log Z of a network of one-hots and flags."""
    return _log_sum(-exact_free_energy(network, list_visible_states(network.layout)))


def exact_free_energy_by_top(network, visible):
    """Return F(v) of a network of two hidden layers by enumerating the upper one alone."""
    (b0, b1, b2), (w1, w2) = (
        [each.double().numpy() for each in network.biases],
        [each.double().numpy() for each in network.weights],
    )
    top = list_binary_states(len(b2))
    driven = top @ b2
    found = []
    for row in np.asarray(visible, dtype=float):
        fields = b1 + row @ w1 + top @ w2.T
        found.append(-row @ b0 - _log_sum(driven + np.logaddexp(0, fields).sum(axis=1)))
    return np.array(found)


def exact_probabilities(network):
    """Return the visible states and their probabilities."""
    states = list_visible_states(network.layout)
    log_shares = -exact_free_energy(network, states)
    return states, np.exp(log_shares - _log_sum(log_shares))


def exact_model_means(network):
    """Return the expectations of x_l and of x_{l-1} x_l' under the model, as two lists."""
    layers = [list_visible_states(network.layout)]
    layers += [list_binary_states(size) for size in network.sizes[1:]]
    log_z = exact_log_partition(network)
    means = [np.zeros(size) for size in network.sizes]
    pairs = [np.zeros(tuple(weight.shape)) for weight in network.weights]
    for states in itertools.product(*layers):
        chance = math.exp(-energy_of(network, states) - log_z)
        for layer, state in enumerate(states):
            means[layer] += chance * state
        for layer in range(len(pairs)):
            pairs[layer] += chance * np.outer(states[layer], states[layer + 1])
    return means, pairs


def _log_sum(terms):
    terms = np.asarray(terms)
    top = terms.max()
    return float(top + math.log(np.exp(terms - top).sum()))

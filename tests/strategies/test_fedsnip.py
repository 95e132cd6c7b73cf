"""FedSNIP against its rule in numpy, with somebody else's app."""

import numpy as np
import pytest
from flwr.app import Message

from caafp_app.registry import CODECS
from caafp_app.strategies import WireFormat
from caafp_app.strategies.fedsnip import FedSNIP
from tests.protocol.support import repacked
from tests.strategies import numpy_app
from tests.strategies.support import run
from tests.strategies.trial import Trial

KEPT = 22  # of 72, at sparsity 0.7


def flat(model: list[np.ndarray]) -> np.ndarray:
    """The prunable arrays: of the numpy app, those with two axes or more."""
    return np.concatenate([array.ravel() for array in model if array.ndim > 1])


def reference_mask(*parts: int) -> np.ndarray:
    """The largest sums of |g w|, each client's divided by its mean; the app's drift is -g."""
    model = numpy_app.initial().to_numpy_ndarrays()
    total = np.zeros(72)
    for part in parts:
        drift = flat(numpy_app.trained(part, model)[0]) - flat(model)
        saliency = np.abs(drift * flat(model)).astype(np.float64)
        total += saliency / saliency.mean()
    mask = np.zeros(72, dtype=bool)
    mask[np.argsort(-total)[:KEPT]] = True
    return mask


def test_one_mask_is_cut_from_what_all_clients_say_and_never_changes() -> None:
    trial = Trial(kind=FedSNIP, rounds=3, clients_per_round=2, seed=3, personalise=True).start()
    seen, result = trial.seen, trial.result
    truth = reference_mask(*range(5))
    for number in (1, 2, 3):
        mask = trial.kept.models(number)[-1]["mask"]
        np.testing.assert_array_equal(np.unpackbits(mask, count=72, bitorder="little"), truth)
    asked = [(record.phase, record.asked) for record in seen.rounds]
    assert asked[0] == ("saliency", 5)
    assert [count for phase, count in asked if phase == "train"] == [2, 2, 2]
    assert not flat(result.arrays.to_numpy_ndarrays())[~truth].any()
    assert {c.personal_sparsity for c in seen.report.clients} == {1 - KEPT / 72}


def test_a_round_is_sparse_fedavg() -> None:
    result = Trial(kind=FedSNIP, rounds=1, configs=4).start().result
    start, mask = numpy_app.initial().to_numpy_ndarrays(), reference_mask(*range(4))
    for array, part in zip(start[:2], np.split(mask, 2), strict=True):
        array *= part.reshape(array.shape)
    truth = numpy_app.averaged(range(4), start)
    found = result.arrays.to_numpy_ndarrays()
    np.testing.assert_allclose(flat(found), np.where(mask, flat(truth), 0), atol=1e-5)
    np.testing.assert_allclose(found[2], truth[2], atol=1e-5)


def test_one_client_does_not_decide_the_mask() -> None:
    """What a client says is at a scale of its own only if it keeps to it."""

    def claim(request: Message, reply: Message) -> Message:
        header = reply.content.config_records["caafp"]
        if (header["action"], header["label"]) == ("saliency", "part-0003"):
            loud = np.repeat(np.float32([0, 1e7]), 36)
            repacked(reply.content, lambda arrays: arrays.update(values=loud))
        return reply

    trial = Trial(claim, kind=FedSNIP, rounds=1, configs=6).start()
    honest = reference_mask(0, 1, 2, 4, 5)
    np.testing.assert_array_equal(flat(list(trial.result.clusters[-1].mask.values())), honest)
    refusals = trial.seen.round(0, "saliency").refusals
    assert refusals.keys() == {"part-0003"}
    assert refusals["part-0003"].startswith("saliency: expected a mean of 1, found 5e+06")


@pytest.mark.parametrize("codec", CODECS.builtin)
def test_what_a_codec_does_to_the_mean_is_no_reason_to_refuse(codec: str) -> None:
    trial = Trial(kind=FedSNIP, rounds=1, configs=12, wire=WireFormat(up=codec)).start()
    record = trial.seen.round(0, "saliency")
    assert (record.answered, record.refused) == (12, 0)


def test_our_own_app_reports_gradients_and_keeps_the_mask_in_fine_tuning() -> None:
    done = run({"strategy": "fedsnip", "sparsity": 0.9})
    bits = flat(list(done.result.clusters[-1].mask.values()))
    assert bits.sum() == round(0.1 * bits.size)
    assert len(done.asked()[0, "saliency"]) == 6
    for client in done.seen.report.clients:
        assert client.personal_sparsity == pytest.approx(0.9, abs=1e-4)

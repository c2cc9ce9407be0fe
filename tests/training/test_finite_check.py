"""What is said of a loss that is not finite, beside ``tests/faults/test_numbers.py``."""

from pathlib import Path

import pytest

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.mixed import MixedData, Task
from saliency_vae.training.finite_check import StopAtNonFinite
from tests.conftest import MakeModule, blob_classifier, make_trainer
from tests.faults.broken_networks import BreaksAt
from tests.faults.test_numbers import NamedBlobs, NamedBlobsData


def test_an_image_of_a_further_task_is_named_with_its_task(
    make_module: MakeModule, tmp_path: Path
) -> None:
    image = NamedBlobs(16, seed=2).images[11].float() / 255
    breaks = FrozenClassifier(BreaksAt(image, "loss"), name="breaks")
    module = make_module(classifier=[blob_classifier(), breaks])
    tasks = [Task(name, NamedBlobsData(), 1.0) for name in ("first", "second")]
    trainer = make_trainer(
        tmp_path, [StopAtNonFinite()], max_epochs=1, num_sanity_val_steps=0, limit_train_batches=1
    )
    with pytest.raises(FloatingPointError, match=r"from blob_11\.png of task 2\. ") as error:
        trainer.fit(module, datamodule=MixedData(tasks, batch_size=8, num_workers=0))
    assert str(error.value).endswith(
        "go on from there with a lower trainer.gradient_clip_val, such as 1, or start a new run "
        "with a lower optimizer.lr."
    )

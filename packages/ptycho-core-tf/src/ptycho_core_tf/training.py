"""Train a network on a scan: the order of a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptycho_config.errors import TrainingError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.advice import smaller_batch_advice
from ptycho_core.learning.course import Course
from ptycho_core.learning.prepare import Prepared, announce, calibration_frames, prepare, scaling_of
from ptycho_core.learning.recipe import batch_size_of, learning_rate_of
from ptycho_core.learning.report import TrainingReport, metric_to_watch
from ptycho_core.learning.resume import joined
from ptycho_core.result.callbacks import Callback, CallbackList
from ptycho_core.scan import Scan
from ptycho_core_tf.checkpoints import Checkpoints
from ptycho_core_tf.devices import Placement, compute_dtype, device_in_use, jit_compile, place_run
from ptycho_core_tf.first_weights import seeded
from ptycho_core_tf.framework import hints_to_log, keras, quietly, tf
from ptycho_core_tf.keras_model import PtychoKeras
from ptycho_core_tf.loaders import Loader, make_loader
from ptycho_core_tf.logs import metric_loggers
from ptycho_core_tf.memory import is_out_of_memory
from ptycho_core_tf.network import PtychoNetwork
from ptycho_core_tf.optimisers import optimiser_for
from ptycho_core_tf.reporting import Reporter
from ptycho_core_tf.schedules import scheduler_for
from ptycho_core_tf.trained import TrainedNetwork

__all__ = ["train_network", "train_on"]

#: The logger of the command line, which names no core and so listens to no logger of one.
_LOG = logging.getLogger("ptycho")
#: Epochs of a run that the time budget ends.
_ENDLESS = 10**9


def train_network(
    scan: Scan,
    config: TrainingConfig,
    execution: TensorFlowExecutionConfig,
    *,
    callbacks: Sequence[Callback] = (),
    test_scan: Scan | None = None,
    directory: Path | None = None,
    start: TrainedNetwork | None = None,
) -> TrainedNetwork:
    """Train on the measured diffraction of a scan, whose probe is taken as it is.

    Args:
        test_scan: where given, its loss is `val_loss`, and training ends when it no longer falls.
        directory: for the logger's files, the checkpoints, the bundle that is written about once a minute,
            and the last good weights where training fails.
        start: go on with this network and its settings. The optimiser begins anew.
    Raises:
        ConfigError: the configuration does not fit the scan, the host, or the network to go on with.
        PolicyError: POLICY-001.
        TrainingError: the loss is not finite, the network collapsed, or the memory does not suffice.
    """
    earlier = None if start is None else start.earlier
    prepared = prepare(scan, config, execution, test_scan=test_scan, earlier=earlier)
    placement = place_run(execution, stacklevel=3)
    return train_on(
        placement,
        prepared,
        execution,
        together=placement.n_devices,
        callbacks=callbacks,
        test_scan=test_scan,
        directory=directory,
        start=start,
    )


def train_on(
    placement: Placement,
    prepared: Prepared,
    execution: TensorFlowExecutionConfig,
    *,
    together: int,
    callbacks: Sequence[Callback] = (),
    test_scan: Scan | None = None,
    directory: Path | None = None,
    start: TrainedNetwork | None = None,
) -> TrainedNetwork:
    """Train on devices that are chosen already; see `train_network`.

    Args:
        together: batches of one step, shared out among the devices. The step of one device from two batches
            is that of two devices from one each.
    """
    config, frames = prepared.config, prepared.frames
    written = directory if execution.enable_checkpointing else None
    watched = metric_to_watch(execution, tested=test_scan is not None)
    with quietly(), placement.strategy.scope():
        run = _Run(_network(prepared, start, execution, placement), prepared, execution, start, placement)
        loader = make_loader(frames, config, prepared.seed + prepared.epochs_before, together=together)
        module = PtychoKeras(
            run.network, config, execution, mean_counts_per_pixel=prepared.mean_counts_per_pixel
        )
        optimiser = optimiser_for(config, module.learned, learning_rate_of(config, execution))
        # Keras annotates its default, "auto", and takes a truth value as well.
        module.compile(optimizer=optimiser, jit_compile=False)  # pyright: ignore[reportArgumentType]
    course = Course(
        config,
        steps_per_epoch=loader.n_steps,
        n_epochs=prepared.n_epochs_in_all,
        epochs_before=prepared.epochs_before,
    )

    def keep(history: Sequence[Mapping[str, Any]]) -> None:
        if written is not None:
            run.present(history, interrupted=True).save(written)

    report = TrainingReport(
        callbacks, scan=frames.scan, n_epochs=prepared.n_epochs, max_time_s=config.max_time, keep=keep
    )
    reporter = Reporter(report, run.network, course, loader, together * loader.frames_per_batch)
    monitor = "train_loss" if test_scan is None else "val_loss"
    listeners: list[keras.callbacks.Callback] = [
        reporter,
        scheduler_for(optimiser, config, course.factor, monitor=monitor),
        *metric_loggers(execution, directory),
    ]
    test_data = None
    if test_scan is not None:
        patience = execution.early_stop_patience
        listeners.append(keras.callbacks.EarlyStopping("val_loss", patience=patience))
        test_frames = prepared.test_frames(test_scan)
        test_loader = make_loader(test_frames, config, prepared.seed, together=together)
        test_loader.begin()
        # Keras asks how long it is, and warns where it is not told.
        known = tf.data.experimental.assert_cardinality(test_loader.n_steps)
        test_data = test_loader.dataset.take(test_loader.n_steps).apply(known)
    if written is not None:

        def save(path: Path) -> Path:
            return run.present(report.history, interrupted=True).save(path)

        listeners.append(Checkpoints(written, execution, watched, save=save))
    _LOG.info("%s", device_in_use(placement))
    announce(CallbackList(callbacks), config, execution, None if written is None else watched)
    failure: TrainingError | None = None
    try:
        _fit(module, loader, test_data, prepared.n_epochs, listeners, execution)
    except TrainingError as error:
        reporter.restore_last_good()
        failure = error
    finally:
        reporter.on_train_end()
    trained = run.present(report.history, interrupted=report.interrupted)
    if failure is not None:
        kept = ""
        if directory is not None and report.history:
            kept = f" The last good weights are in {trained.save(directory)}."
        raise TrainingError(f"{failure}{kept}", finding=failure.finding) from failure
    return trained


@dataclass(frozen=True)
class _Run:
    """What a training has, before its first step and after its last one."""

    network: PtychoNetwork
    prepared: Prepared
    execution: TensorFlowExecutionConfig
    start: TrainedNetwork | None
    placement: Placement

    def present(self, history: Sequence[Mapping[str, Any]], *, interrupted: bool) -> TrainedNetwork:
        """Return the network as it is now, after these epochs."""
        config, frames = self.prepared.config, self.prepared.frames
        output_scale = math.exp(float(self.network.log_scale.numpy()))
        with tf.device(self.placement.device):
            network = self.network.copied()
        return TrainedNetwork(
            network=network,
            training=config,
            execution=self.execution,
            scaling=scaling_of(config.model, frames, output_scale=output_scale),
            probe_given=frames.scan.probe,
            history=joined(() if self.start is None else self.start.history, history),
            interrupted=interrupted,
            placement=self.placement,
        )


def _network(
    prepared: Prepared,
    start: TrainedNetwork | None,
    execution: TensorFlowExecutionConfig,
    placement: Placement,
) -> PtychoNetwork:
    """Make the network that learns, with its first weights or those to go on from."""
    frames = prepared.frames
    with seeded(prepared.seed):
        network = PtychoNetwork(prepared.config.model, frames.scan.probe, frames.intensity_scale)
    if start is None:
        network.calibrate(tf.constant(calibration_frames(frames)))
    else:
        network.take(start.network, probe=prepared.keeps_probe)
    if prepared.trains_probe:
        network.train_probe()
    network.compute_dtype = compute_dtype(execution)
    network.jit_compile = jit_compile(execution, placement)
    return network


def _fit(
    module: PtychoKeras,
    loader: Loader,
    test_data: tf.data.Dataset | None,
    n_epochs: int | None,
    listeners: Sequence[keras.callbacks.Callback],
    execution: TensorFlowExecutionConfig,
) -> None:
    """Run the training.

    Raises:
        TrainingError: see `train_network`.
    """
    epochs = _ENDLESS if n_epochs is None else n_epochs
    options = {"verbose": 0, "shuffle": False, "steps_per_epoch": loader.n_steps}
    try:
        with hints_to_log():
            module.fit(
                loader.dataset,
                epochs=epochs,
                callbacks=list(listeners),
                validation_data=test_data,
                **options,
            )
    except Exception as error:
        if isinstance(error, TrainingError) or not is_out_of_memory(error):
            raise
        advice = smaller_batch_advice(batch_size_of(module.settings), execution)
        raise TrainingError(advice) from error

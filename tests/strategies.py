"""Hypothesis strategies for the values of the project."""

from hypothesis import strategies as st

from fer_search import config, trial_config

_FRACTION = st.floats(0, 0.5, allow_nan=False)

augmentations = st.builds(
    trial_config.Augmentation,
    rotation=st.floats(0, 45),
    shift=_FRACTION,
    zoom=_FRACTION,
    flip=st.booleans(),
    brightness=_FRACTION,
    contrast=_FRACTION,
    erasing=_FRACTION,
)

_remedies = st.one_of(
    st.builds(dict, class_weight_power=st.floats(0, 1)),
    st.builds(dict, class_weight_power=st.just(0), balanced_sampling=st.booleans()),
    st.builds(dict, class_weight_power=st.just(0), focal_gamma=st.floats(0, 5)),
)

_settings = st.fixed_dictionaries(
    {
        "backbone": st.sampled_from(config.BACKBONES),
        "weights": st.sampled_from(["none", "imagenet", "folder/vgg16.weights.h5"]),
        "image_size": st.integers(config.SMALLEST_IMAGE, config.LARGEST_IMAGE),
        "unfreeze_depth": st.integers(0, config.STAGES),
        "batch_norm": st.sampled_from(config.BATCH_NORMS),
        "pooling": st.sampled_from(config.POOLINGS),
        "head_units": st.integers(0, 4096),
        "dropout": st.floats(0, 0.9),
        "optimizer": st.sampled_from(config.OPTIMIZERS),
        "learning_rate": st.floats(1e-8, 10),
        "weight_decay": _FRACTION,
        "backbone_rate": st.floats(1e-3, 1),
        "schedule": st.sampled_from(config.SCHEDULES),
        "warmup": _FRACTION,
        "head_warmup": st.integers(0, 4),
        "clip_norm": st.floats(0, 10),
        "ema_decay": st.floats(0, 0.9999),
        "batch_size": st.integers(1, 1024),
        "label_smoothing": _FRACTION,
        "mixup": st.floats(0, 1),
        "augmentation": augmentations,
        "epochs": st.integers(5, 100),
        "patience": st.integers(1, 100),
        "seed": st.integers(0, 2**32 - 1),
    }
)

trial_configs = st.builds(
    lambda settings, remedy: trial_config.TrialConfig(**settings | remedy), _settings, _remedies
)

search_configs = st.builds(
    config.SearchConfig,
    trials=st.integers(1, 1000),
    timeout=st.floats(0, 1e6),
    study=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    data=st.sampled_from(["fer2013", "synthetic", "some/folder"]),
    backbones=st.lists(st.sampled_from(config.BACKBONES), min_size=1, unique=True),
    image_sizes=st.one_of(st.just("auto"), st.lists(st.integers(32, 512), min_size=1, max_size=4)),
    views=st.sampled_from(config.VIEWS),
    workers=st.one_of(st.just("auto"), st.integers(1, 64)),
    sampler=st.sampled_from(config.SAMPLERS),
    pruner=st.sampled_from(config.PRUNERS),
    precision=st.sampled_from(config.PRECISIONS),
    register=st.sampled_from(config.REGISTER),
)

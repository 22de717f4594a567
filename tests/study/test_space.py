import keras_tuner
import optuna

from fer_search.config import BACKBONES, POOLINGS, SearchConfig
from fer_search.study.hyperparameters import OptunaHyperParameters, fingerprint
from fer_search.study.space import declare, known_good, settled, suggest

FULL = SearchConfig(image_sizes="48,96", backbones="vgg16,resnet50")


def draw(search, n=30, sampler=None):
    study = optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=1))
    for number in range(n):
        trial = study.ask()
        yield trial, suggest(OptunaHyperParameters(trial), search=search, seed=number)
        study.tell(trial, 0.5)


def test_parameters_of_other_branches_are_never_asked_for():
    for trial, config in draw(FULL):
        other = "resnet50" if config.backbone == "vgg16" else "vgg16"
        assert f"{other}_unfreeze_depth" not in trial.params
        other = "sgd" if config.optimizer == "adamw" else "adamw"
        assert f"{other}_learning_rate" not in trial.params
        assert trial.params[f"{config.optimizer}_learning_rate"] == config.learning_rate


def test_a_setting_without_a_choice_is_no_question():
    search = SearchConfig(backbones="vgg16", image_sizes="48", weights="none")
    for trial, config in draw(search, 5):
        assert not {"backbone", "image_size", "vgg16_unfreeze_depth", "backbone_rate"} & set(
            trial.params
        )
        assert (config.backbone, config.image_size, config.unfreeze_depth) == ("vgg16", 48, 5)
    assert settled(search)["backbone"] == "vgg16"


def test_pooling_is_asked_for_where_there_is_something_to_pool():
    small, large = (SearchConfig(image_sizes=size) for size in ("48", "96"))
    asked = {name for trial, _ in draw(small) for name in trial.params}
    assert "vgg16_pooling" not in asked
    assert "resnet50_pooling" in asked
    assert {c.pooling for _, c in draw(large) if c.backbone == "vgg16"} == set(POOLINGS)
    assert {c.pooling for _, c in draw(large) if c.backbone == "resnet50"} == {"avg", "max"}


def test_one_remedy_for_the_imbalance_at_a_time_each_with_its_strength():
    seen = set()
    for trial, config in draw(FULL):
        seen.add(trial.params["imbalance"])
        strengths = {"class_weight_power", "focal_gamma"} & set(trial.params)
        expected = {"class_weights": {"class_weight_power"}, "focal_loss": {"focal_gamma"}}
        assert strengths == expected.get(trial.params["imbalance"], set())
        assert config.balanced_sampling == (trial.params["imbalance"] == "balanced_sampling")
        assert bool(config.mixup) == trial.params["is_mixed"] == ("mixup" in trial.params)
    assert seen == {"class_weights", "balanced_sampling", "focal_loss", "none"}


def test_what_protects_pretrained_weights_is_not_asked_for_without_them():
    search = SearchConfig(image_sizes="48", weights="none")
    asked = {name for trial, _ in draw(search) for name in trial.params}
    assert not {"head_warmup", "resnet50_batch_norm", "backbone_rate"} & asked


def test_weights_are_averaged_only_where_there_is_no_batch_norm():
    for trial, config in draw(FULL):
        assert ("ema_decay" in trial.params) == (config.backbone != "resnet50")
        assert config.backbone != "resnet50" or not config.ema_decay


def test_weights_are_named_by_backbone():
    search = SearchConfig(weights="w/{backbone}.h5", image_sizes="48")
    assert {config.weights for _, config in draw(search)} == {"w/vgg16.h5", "w/resnet50.h5"}


def test_in_few_epochs_little_regularisation_is_tried_first():
    def dropouts(epochs):
        search = SearchConfig(backbones="vgg16", image_sizes="48", epochs=epochs)
        return [point["dropout"] for point in known_good(search)]

    assert dropouts(20) == [0.5, 0.1]
    assert dropouts(9) == [0.1, 0.5]


def test_known_good_points_lie_in_the_space_and_survive_the_queue():
    search = SearchConfig(backbones=BACKBONES, image_sizes="48", weights="none")
    points = known_good(search)
    assert {point["backbone"] for point in points} == set(BACKBONES)
    study = optuna.create_study()
    for point in points:
        study.enqueue_trial(point)
        trial = study.ask()
        config = suggest(OptunaHyperParameters(trial), search=search, seed=0)
        assert config == suggest(declare(search, point), search=search, seed=0)


def test_a_plain_keras_tuner_gets_the_defaults():
    config = suggest(keras_tuner.HyperParameters(), search=FULL, seed=0)
    assert (config.backbone, config.learning_rate, config.augmentation.flip) == (
        "vgg16",
        3e-4,
        True,
    )


def test_a_keras_tuner_oracle_can_drive_the_space():
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("f1", "max"), max_trials=3, hyperparameters=declare(FULL)
    )
    values = oracle.populate_space("0")["values"]
    hp = declare(FULL)
    hp.values = values
    assert suggest(hp, search=FULL, seed=0).backbone == values["backbone"]


def test_the_fingerprint_tells_spaces_apart():
    same = fingerprint(declare(FULL))
    assert fingerprint(declare(FULL.model_copy(update={"trials": 7}))) == same
    assert fingerprint(declare(FULL.model_copy(update={"image_sizes": (48,)}))) != same
    assert fingerprint(declare(FULL.model_copy(update={"backbones": ("vgg16",)}))) != same
    assert fingerprint(declare(FULL.model_copy(update={"weights": "none"}))) != same

"""Record small BERT checkpoints in the forms that people hold, with the hidden states that their own libraries compute.

    python tests/record_checkpoints.py transformers   in an environment with torch and transformers 4
    python tests/record_checkpoints.py tensorflow     in one with tensorflow and keras-hub
    python tests/record_checkpoints.py keras2         in one with tensorflow 2.15 and keras-nlp 0.8

Run them in this order, without kbert. Each writes recorded/checkpoints/NAME/ for each of its cases, and adds the hidden
states of `ROWS`, float32 [rows, tokens, hidden], to recorded/checkpoints.npz under NAME.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tiny import CONFIG, VOCABULARY, hugging_face_tensors

HERE = Path(__file__).parent / "recorded"
HIDDEN, WIDE, POSITIONS = 8, 16, 12
SHAPE = {**CONFIG, "hidden_size": HIDDEN, "intermediate_size": WIDE, "max_position_embeddings": POSITIONS}
GOOGLE = {name: value for name, value in SHAPE.items() if name != "model_type"}
MASK = np.array([[1] * 12, [1] * 7 + [0] * 5, [1] * 3 + [0] * 9], np.int32)
IDS = MASK * np.random.default_rng(7).integers(1, len(VOCABULARY), MASK.shape, dtype=np.int32)
SEGMENTS = MASK * (np.arange(12, dtype=np.int32)[None] >= 4)
ROWS = {"token_ids": IDS, "segment_ids": SEGMENTS, "padding_mask": MASK}


def tensors(seed: int) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names."""
    return hugging_face_tensors(hidden=HIDDEN, wide=WIDE, positions=POSITIONS, seed=seed)


def directory(name: str, config: dict | None, file: str = "config.json", vocabulary: str | None = "vocab.txt") -> Path:
    """A new directory of a case with its configuration and vocabulary."""
    path = HERE / "checkpoints" / name
    shutil.rmtree(HERE / "checkpoints" / Path(name).parts[0], ignore_errors=True)
    path.mkdir(parents=True)
    if config is not None:
        (path / file).write_text(json.dumps(config, indent=1) + "\n")
    if vocabulary is not None:
        (path / vocabulary).write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    return path


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: value for name, value in state.items()}


def of_transformers() -> Iterator[tuple[str, np.ndarray]]:
    """Write the cases of PyTorch; yield their names with their hidden states."""
    import torch
    import transformers
    from safetensors.torch import save_file

    def state(seed: int, scale: float = 1.0) -> dict:
        made = tensors(seed)
        for name in made:
            made[name] *= scale if "_embeddings." in name else 1.0
        return {name: torch.from_numpy(tensor) for name, tensor in made.items()}

    def hidden(weights: dict, **settings: object) -> np.ndarray:
        model = transformers.BertModel(transformers.BertConfig(**{**SHAPE, **settings}))
        model.load_state_dict({name: value.float() for name, value in weights.items()})
        rows = {name: torch.from_numpy(array).long() for name, array in ROWS.items()}
        segments = rows["segment_ids"] * (model.config.type_vocab_size > 1)
        with torch.no_grad():
            return (
                model.eval()(rows["token_ids"], attention_mask=rows["padding_mask"], token_type_ids=segments)
                .last_hidden_state.numpy()
                .copy()
            )

    # Settings. Embeddings are small where the epsilon is to be seen.
    for name, settings, absent in (
        ("epsilon_1e-5", {"layer_norm_eps": 1e-5}, ()),
        ("epsilon_1e-7_without_model_type", {"layer_norm_eps": 1e-7}, ("model_type",)),
        ("gelu_python", {"hidden_act": "gelu_python"}, ()),
        ("gelu_fast", {"hidden_act": "gelu_fast"}, ()),
    ):
        weights = state(len(name), 0.003 if "epsilon" in name else 1.0)
        path = directory(name, {k: v for k, v in {**SHAPE, **settings}.items() if k not in absent})
        save_file(weights, path / "model.safetensors")
        yield name, hidden(weights, **settings)

    # As transformers itself saves them.
    for name, kind, settings in (
        ("saved_pretraining", "BertForPreTraining", {}),
        ("saved_one_segment", "BertModel", {"type_vocab_size": 1, "max_position_embeddings": 600}),
        ("saved_float16", "BertForTokenClassification", {"num_labels": 3}),
        ("saved_shards_bfloat16", "BertModel", {}),
        ("saved_untied", "BertForMaskedLM", {"tie_word_embeddings": False}),
    ):
        torch.manual_seed(len(name))
        config = transformers.BertConfig(**{**SHAPE, "hidden_size": HIDDEN, "initializer_range": 0.3, **settings})
        model = getattr(transformers, kind)(config)
        model = model.half() if "float16" in name and "bfloat16" not in name else model
        model = model.bfloat16() if "bfloat16" in name else model
        path = directory(name, None)
        model.save_pretrained(path, max_shard_size="2KB" if "shards" in name else "5GB")
        encoder = model if kind == "BertModel" else model.bert
        weights = dict(encoder.state_dict().items())
        weights = {**{k: v for k, v in state(0).items() if k.startswith("pooler.")}, **weights}
        yield name, hidden(weights, **settings)

    # Pickles, with prefixes and what stands beside.
    weights = state(31)
    path = directory("pickle", SHAPE)
    torch.save(prefixed(weights, "bert."), path / "pytorch_model.bin")
    yield "pickle", hidden(weights)
    weights = state(32)
    path = directory("pickle_oldest", GOOGLE, "bert_config.json")
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in weights.items()
    }
    old["embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    torch.save(prefixed(old, "bert."), path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    yield "pickle_oldest", hidden(weights)
    weights = state(33)
    path = directory("pickle_of_a_training_run", SHAPE)
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    run = {"epoch": 2, "state_dict": prefixed(weights, "model.bert."), "optimizer_states": optimizer}
    torch.save(run, path / "epoch=2.ckpt")
    yield "pickle_of_a_training_run", hidden(weights)
    for seed, (name, prefix, beside) in enumerate(
        (
            ("prefix_module", "module.", {}),
            ("prefix_model_bert", "model.bert.", {"model.crf.transitions": (3, 3), "model.lstm.weight_ih_l0": (4, HIDDEN)}),
            ("simcse_mlp", "", {"mlp.dense.weight": (HIDDEN, HIDDEN), "mlp.dense.bias": (HIDDEN,), "logit_scale": ()}),
            ("colbert_linear", "bert.", {"linear.weight": (4, HIDDEN)}),
        ),
        41,
    ):
        weights = state(seed)
        path = directory(name, SHAPE)
        others = {key: torch.full(shape, 0.5) for key, shape in beside.items()}
        save_file({**prefixed(weights, prefix), **others}, path / "model.safetensors")
        yield name, hidden(weights)

    weights = state(51)
    path = directory("bert_config_beside_safetensors", GOOGLE, "bert_config.json")
    save_file(prefixed(weights, "bert."), path / "model.safetensors")
    yield "bert_config_beside_safetensors", hidden(weights)
    weights = state(52)
    path = directory("vocabulary_of_another_name", SHAPE, vocabulary="vocab_zh.txt")
    (path / "tokenizer_config.json").write_text(json.dumps({"vocab_file": "/home/someone/vocab_zh.txt", "do_lower_case": True}))
    save_file(weights, path / "model.safetensors")
    yield "vocabulary_of_another_name", hidden(weights)
    for seed, branch in ((54, "1" * 40), (53, "2" * 40)):
        weights = state(seed)
        if seed == 54:
            path = directory(f"hub_cache/models--someone--tiny/snapshots/{branch}", SHAPE)
        else:
            shutil.copytree(path, path.with_name(branch))
            path = path.with_name(branch)
            (path.parents[1] / "refs").mkdir()
            (path.parents[1] / "refs" / "main").write_text(branch)
        save_file(weights, path / "model.safetensors")
    yield "hub_cache", hidden(weights)
    weights = state(55)
    path = directory("sentence_transformers/0_BERT", SHAPE)
    save_file(weights, path / "model.safetensors")
    modules = [{"idx": 0, "name": "0", "path": "0_BERT", "type": "sentence_transformers.models.Transformer"}]
    (path.parent / "modules.json").write_text(json.dumps(modules))
    yield "sentence_transformers", hidden(weights)

    # The numbers for the cases of TensorFlow, whose gelu is the approximation.
    for name, seed in OF_TENSORFLOW.items():
        yield name, hidden(state(seed), hidden_act="gelu_new")


OF_TENSORFLOW = {
    "google_config_json": 61,
    "google_without_prefix": 62,
    "google_optimizer_slots": 63,
    "google_several": 64,
    "keras_bfloat16": 65,
    "keras2": 66,
    "keras2_oldest": 67,
}


def of_tensorflow() -> Iterator[tuple[str, np.ndarray]]:
    """Write the cases of TensorFlow 1 and Keras 3; yield the hidden states of presets."""
    import keras_hub
    import tensorflow as tf

    def google(seed: int, prefix: str) -> dict[str, np.ndarray]:
        named = {}
        for name, value in tensors(seed).items():
            name = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
            if "LayerNorm" in name:
                name = name.replace("LayerNorm/weight", "LayerNorm/gamma").replace("LayerNorm/bias", "LayerNorm/beta")
            elif "_embeddings/" in name:
                name = name.removesuffix("/weight")
            elif name.endswith("/weight"):
                name, value = name.removesuffix("weight") + "kernel", value.T
            named[prefix + name] = value
        return named

    def save(path: Path, values: dict[str, np.ndarray], step: int | None = None) -> None:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            for name, value in values.items():
                tf.compat.v1.get_variable(name, initializer=value)
            session.run(tf.compat.v1.global_variables_initializer())
            saver = tf.compat.v1.train.Saver()
            saver.save(session, str(path), global_step=step, write_meta_graph=False, write_state=False)

    save(directory("google_config_json", GOOGLE) / "bert_model.ckpt", google(61, "bert/"))
    save(directory("google_without_prefix", GOOGLE, "bert_config.json") / "bert_model.ckpt", google(62, ""))
    values = google(63, "bert/")
    slots = {f"{name}/{slot}": np.zeros_like(value) for name, value in values.items() for slot in ("LAMB", "LAMB_1")}
    scale = {"global_step": np.int64(7), "loss_scale": np.float32(1024), "beta1_power": np.float32(0.9)}
    ema = {"training/AdamW/bert/pooler/dense/kernel/m": np.zeros((HIDDEN, HIDDEN), np.float32)}
    save(directory("google_optimizer_slots", GOOGLE, "bert_config.json") / "model.ckpt", {**values, **slots, **scale, **ema}, 7)
    path = directory("google_several", GOOGLE, "bert_config.json")
    for step, seed in ((1000, 68), (2000, 64), (3000, 69)):
        save(path / "model.ckpt", google(seed, "bert/"), step)
    (path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-2000"\n')

    path = directory("keras_bfloat16", None, vocabulary=None)
    yield "keras_bfloat16", preset(keras_hub, path, 65, dtype="bfloat16")


def preset(hub: object, path: Path, seed: int, **more: object) -> np.ndarray:
    """Write a preset; return its backbone's hidden states, in float32."""
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": HIDDEN, "intermediate_dim": WIDE, "max_sequence_length": POSITIONS}
    backbone = hub.models.BertBackbone(vocabulary_size=len(VOCABULARY), **sizes, **more)
    values = tensors(seed)
    names = ["embeddings.word", "embeddings.position", "embeddings.token_type"]
    stack = [values[f"{name}_embeddings.weight"] for name in names]
    stack += [values["embeddings.LayerNorm.weight"], values["embeddings.LayerNorm.bias"]]
    for i in range(2):
        at = f"encoder.layer.{i}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            stack += [values[f"{at}{part}.weight"].T, values[f"{at}{part}.bias"]]
        for norm in ("attention.output", "output"):
            stack += [values[f"{at}{norm}.LayerNorm.{kind}"] for kind in ("weight", "bias")]
        stack += [values[f"{at}intermediate.dense.weight"].T, values[f"{at}intermediate.dense.bias"]]
        stack += [values[f"{at}output.dense.weight"].T, values[f"{at}output.dense.bias"]]
    stack += [values["pooler.dense.weight"].T, values["pooler.dense.bias"]]
    shaped = [value.reshape(variable.shape) for value, variable in zip(stack, backbone.weights, strict=True)]
    for value, variable in zip(shaped, backbone.weights, strict=True):
        variable.assign(value)
    backbone.save_to_preset(str(path))
    hub.models.BertTokenizer(VOCABULARY, lowercase=True).save_to_preset(str(path))
    plain = hub.models.BertBackbone(vocabulary_size=len(VOCABULARY), **sizes)
    for ours, saved in zip(plain.weights, backbone.weights, strict=True):
        ours.assign(np.asarray(saved).astype(np.float32))
    return np.asarray(plain.predict(ROWS, verbose=0)["sequence_output"])


def of_keras2() -> Iterator[tuple[str, np.ndarray]]:
    """Write presets as keras-nlp did under Keras 2; yield their hidden states."""
    import h5py
    import keras_nlp
    from keras_nlp.src.utils import preset_utils

    for kind in (keras_nlp.models.BertBackbone, keras_nlp.models.BertTokenizer):
        file = "tokenizer.json" if "Tokenizer" in kind.__name__ else "config.json"
        kind.save_to_preset = lambda self, path, file=file: preset_utils.save_to_preset(self, path, config_filename=file)
    for name in ("keras2", "keras2_oldest"):
        path = directory(name, None, vocabulary=None)
        yield name, preset(keras_nlp, path, OF_TENSORFLOW[name])
        if name == "keras2_oldest":  # the name of the group until Keras 2.13
            with h5py.File(path / "model.weights.h5", "a") as file:
                file.move("layers", "_layer_checkpoint_dependencies")


def main() -> int:
    """Record the cases of one environment."""
    makers = {"transformers": of_transformers, "tensorflow": of_tensorflow, "keras2": of_keras2}
    recorded = HERE / "checkpoints.npz"
    found = dict(np.load(recorded)) if recorded.exists() else {}
    for name, hidden in makers[sys.argv[1]]():
        if name in found and sys.argv[1] != "transformers":
            difference = np.abs(found[name] - hidden)[MASK == 1].max()
            print(f"{name}: differs from transformers by {difference:.1e}")
        found[name] = hidden.astype(np.float32)
    np.savez_compressed(recorded, **{**found, **ROWS})
    return 0


if __name__ == "__main__":
    sys.exit(main())

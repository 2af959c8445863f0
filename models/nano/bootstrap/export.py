"""Write a checkpoint folder in the layout of the released SAIL-VL2 models.

usage: export.py STATE_FILE OUT_FOLDER      (STATE_FILE is train.py's state.pt)
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import make_tokenizer
import phrases
from model import NANO

TEMPLATE = """{%- for message in messages -%}
  {%- if loop.first and messages[0]['role'] != 'system' -%}
    {{'<|im_start|>system\\nSYSTEM<|im_end|>'}}
  {%- endif -%}
  {{'<|im_start|>' + message['role'] + '\\n'}}
  {%- if message['content'] is string -%}
    {{- message['content'] -}}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}{{'<image>\\n'}}{%- else -%}{{part['text']}}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{'<|im_end|>'}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<|im_start|>assistant\\n'}}{%- endif -%}
"""


def config(rows, added):
    """config.json: the keys of the released 2B model, nano's numbers."""
    v, l = NANO["vit"], NANO["llm"]
    return {
        "architectures": ["SAILVLModel"],
        "auto_map": {"AutoConfig": "configuration_sailvl.SAILVLConfig", "AutoModel": "modeling_sailvl.SAILVLModel"},
        "downsample_ratio": 0.5, "dynamic_image_size": True, "force_image_size": NANO["image_size"],
        "llm_config": {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": l["hidden"], "intermediate_size": l["inter"],
            "num_hidden_layers": l["layers"], "num_attention_heads": l["heads"], "num_key_value_heads": l["kv_heads"], "head_dim": l["head_dim"],
            "hidden_act": "silu", "rms_norm_eps": l["eps"], "rope_theta": l["rope_theta"], "rope_scaling": None,
            "max_position_embeddings": l["max_pos"], "tie_word_embeddings": True, "attention_bias": False, "attention_dropout": 0.0,
            "use_sliding_window": False, "sliding_window": None, "max_window_layers": l["layers"], "torch_dtype": "bfloat16", "use_cache": True,
            "vocab_size": rows, "bos_token_id": added["<|endoftext|>"], "eos_token_id": added["<|im_end|>"], "pad_token_id": added["<|endoftext|>"]},
        "max_dynamic_patch": 1, "min_dynamic_patch": 1, "model_type": "sailvl", "pad2square": False, "ps_version": "v2", "select_layer": -1,
        "template": "univl-chat", "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_backbone_lora": 0, "use_llm_lora": 0, "use_thumbnail": True,
        "vision_config": {
            "architectures": ["SAILViTModel"], "model_type": "sailvit", "hidden_size": v["hidden"], "intermediate_size": v["inter"],
            "num_hidden_layers": v["layers"], "num_attention_heads": v["heads"], "num_channels": 3, "image_size": NANO["image_size"],
            "patch_size": NANO["patch_size"], "rms_norm_eps": v["eps"], "attention_dropout": 0.0, "projection_dropout": 0.0,
            "qkv_bias": False, "use_bias": False, "torch_dtype": "bfloat16"}}


def main(state, out):
    """Tokenizer, configuration, weights."""
    make_tokenizer.main(out)
    added = json.loads((out / "added_tokens.json").read_text("utf-8"))
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in torch.load(state, weights_only=False)["model"].items()}
    rows = weights["language_model.model.embed_tokens.weight"].shape[0]
    dump = lambda name, value: (out / name).write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    dump("config.json", config(rows, added))
    dump("preprocessor_config.json", dict(max_dynamic_patch=1, patch_size=NANO["patch_size"], image_size=NANO["image_size"], use_msac=False,
                                          image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], pad_input=True))
    dump("generation_config.json", {"_from_model_config": True, "transformers_version": "4.51.0"})
    (out / "chat_template.jinja").write_text(TEMPLATE.replace("SYSTEM", phrases.SYSTEM), "utf-8")
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    print(f"{len(weights)} tensors, {sum(w.numel() for w in weights.values())} parameters")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

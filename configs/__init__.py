"""Settings as data, and their one reader.

Enters: a YAML file or a model's short name. Leaves: a frozen dataclass or the folder of that model.

    from configs.models import find_model; find_model("minilm")
"""

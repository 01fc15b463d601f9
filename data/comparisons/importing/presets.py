"""Published preference data sets by name: what their columns mean.

Each row has the address of the data set's card, whose columns these are. A labeler `=NAME` says that the card names no labelers;
where these are many, their pairs are not joined.
"""

from typing import Any, NamedTuple


class Preset(NamedTuple):
    """A published data set."""

    what: str  # for `gradus comparisons import --help`
    card: str
    columns: dict[str, Any]  # as `Columns` takes them


PRESETS = {
    # Sides differ in all their turns, and the vote is on the whole conversation; `turn` is the number of the user's turns.
    "chatbot_arena": Preset(
        "Chatbot Arena conversations (lmsys): votes of named users, both ties, conversations with all their turns.",
        "https://huggingface.co/datasets/lmsys/chatbot_arena_conversations",
        {
            "responses": ["conversation_a", "conversation_b"], "whole_conversations": True, "systems": ["model_a", "model_b"],
            "winner": {"column": "winner", "values": {"1": "model_a", "2": "model_b", "tie": ["tie", "tie (bothbad)"]}},
            "labeler": "judge", "time": "tstamp", "id": "question_id",
        },
    ),
    # Two rows or more of a prompt follow each other. A chat's first turn has no mark before it.
    "helpsteer2": Preset(
        "NVIDIA HelpSteer2: responses rated 0 to 4, by helpfulness; one row for each response.",
        "https://huggingface.co/datasets/nvidia/HelpSteer2",
        {
            "prompt": "prompt", "response": "response", "scores": "helpfulness", "labeler": "=helpsteer2",
            "speakers": {"user": "<extra_id_1>User", "assistant": "<extra_id_1>Assistant"},
        },
    ),
    "helpsteer2_preference": Preset(
        "NVIDIA HelpSteer2-Preference (its folder preference/): strength from -3 to 3.",
        "https://huggingface.co/datasets/nvidia/HelpSteer2#preferences-new---1-oct-2024",
        {
            "prompt": "prompt", "responses": ["response_1", "response_2"], "strength": "preference_strength",
            "labeler": "=helpsteer2", "join_pairs": False, "speakers": {"user": "<extra_id_1>User", "assistant": "<extra_id_1>Assistant"},
        },
    ),
    "helpsteer3": Preset(
        "NVIDIA HelpSteer3-Preference: strength from -3 (response1 much better) to 3, ties kept, chats.",
        "https://huggingface.co/datasets/nvidia/HelpSteer3",
        {
            "messages": "context", "responses": ["response1", "response2"], "strength": "overall_preference",
            "labeler": "=helpsteer3", "join_pairs": False,
        },
    ),
    # One of the three columns of winners is 1. Prompt and responses are JSON lists, one text for each turn.
    "lmsys_kaggle": Preset(
        "Kaggle's LMSYS Chatbot Arena competition (train.csv): one column for each winner and for ties, all turns.",
        "https://www.kaggle.com/competitions/lmsys-chatbot-arena/data",
        {
            "user_turns": "prompt", "responses": ["response_a", "response_b"], "whole_conversations": True,
            "scores": ["winner_model_a", "winner_model_b"], "systems": ["model_a", "model_b"],
            "labeler": "=chatbot_arena", "id": "id",
        },
    ),
    # Every conversation has two turns, of which `turn` were judged. GPT-4's rows (split gpt4_pair) also have "tie (inconsistent)",
    # where it chose whatever came first: no judgment.
    "mt_bench_human_judgments": Preset(
        "MT-bench human judgments (lmsys): named experts, ties, after the first turn or the second.",
        "https://huggingface.co/datasets/lmsys/mt_bench_human_judgments",
        {
            "responses": ["conversation_a", "conversation_b"], "whole_conversations": True, "judged_turn": "turn",
            "winner": {"column": "winner", "values": {"1": "model_a", "2": "model_b", "tie": "tie", "skip": "tie (inconsistent)"}},
            "systems": ["model_a", "model_b"], "labeler": "judge", "id": "question_id",
        },
    ),
    # The preference for helpfulness; name `safer_response_id` in columns of your own for that for harmlessness.
    "pku_saferlhf": Preset(
        "PKU-SafeRLHF: the more helpful of two responses (better_response_id).",
        "https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF",
        {
            "prompt": "prompt", "responses": ["response_0", "response_1"], "labeler": "=pku_saferlhf", "join_pairs": False,
            "winner": {"column": "better_response_id", "values": {"response_0": 0, "response_1": 1}},
        },
    ),
    "reward_bench": Preset(
        "RewardBench (allenai): pairs with a chosen response, of many subsets.",
        "https://huggingface.co/datasets/allenai/reward-bench",
        {
            "prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "systems": ["chosen_model", "rejected_model"],
            "labeler": "=reward_bench", "join_pairs": False, "id": "id",
        },
    ),
    # Aggregate votes: a comment was written later than the other one and has more of them all the same.
    "shp": Preset(
        "Stanford Human Preferences: Reddit's votes on two comments to a post.",
        "https://huggingface.co/datasets/stanfordnlp/SHP",
        {
            "prompt": "history", "responses": ["human_ref_A", "human_ref_B"], "labeler": "=reddit",
            "winner": {"column": "labels", "values": {"human_ref_A": 1, "human_ref_B": 0}},
        },
    ),
    "skywork": Preset(
        "Skywork-Reward-Preference-80K: pairs of whole chats.",
        "https://huggingface.co/datasets/Skywork/Skywork-Reward-Preference-80K-v0.2",
        {"chosen": "chosen", "rejected": "rejected", "labeler": "=skywork", "join_pairs": False},
    ),
}  # fmt: skip

"""What users describe: typed models, resource ids, naming rules, lifecycles. Pure: values in, values out."""

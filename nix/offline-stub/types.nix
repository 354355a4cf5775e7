# Option types: each knows what fits (`check`) and how definitions that are
# there become one value (`merge`).
lib:
let
  show =
    value:
    if builtins.isFunction value then
      "a function"
    else if lib.isDerivation value then
      "the package ${value.name}"
    else if lib.isAttrs value then
      "{ ${lib.concatStringsSep " " (lib.attrNames value)} }"
    else if lib.isList value then
      "a list"
    else
      builtins.toJSON value;

  values = map (definition: definition.value);

  one =
    loc: definitions:
    let
      all = lib.unique (values definitions);
    in
    if builtins.length all == 1 then
      builtins.head all
    else
      throw "The option `${lib.showOption loc}' has conflicting definition values: ${
        lib.concatMapStringsSep ", " show all
      }";

  type = description: check: {
    _type = "option-type";
    inherit description check;
    merge = one;
    # Options inside, of a submodule.
    getSubOptions = null;
  };

  text = value: builtins.isString value;
  isPath = value: builtins.isPath value || text value && lib.hasPrefix "/" value;
  inStore = value: lib.hasPrefix builtins.storeDir (toString value);
  between =
    low: high: value:
    builtins.isInt value && low <= value && value <= high;

  types = {
    anything = type "anything" (_: true);
    raw = types.anything;
    bool = type "boolean" builtins.isBool;
    int = type "signed integer" builtins.isInt;
    float = type "floating point number" builtins.isFloat;
    port = type "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (between 0 65535);
    ints.between =
      low: high: type "integer between ${toString low} and ${toString high}" (between low high);
    ints.positive = type "positive integer, meaning >0" (value: builtins.isInt value && value > 0);
    str = type "string" text;
    nonEmptyStr = type "non-empty string" (value: text value && value != "");
    strMatching =
      pattern:
      type "string matching the pattern ${pattern}" (
        value: text value && lib.match pattern value != null
      );
    lines = type "strings concatenated with \"\\n\"" text // {
      merge = _: definitions: lib.concatStringsSep "\n" (values definitions);
    };
    path = type "absolute path" isPath;
    # As nixpkgs has it: no path of the source tree, which would be copied.
    externalPath = type "absolute path not in the Nix store" (
      value: text value && isPath value && !inStore value
    );
    package = type "package" (value: lib.isDerivation value);
    enum =
      allowed: type "one of ${lib.concatMapStringsSep ", " show allowed}" (value: lib.elem value allowed);

    nullOr =
      inner:
      type "null or ${inner.description}" (value: value == null || inner.check value)
      // {
        merge =
          loc: definitions:
          if lib.all (value: value == null) (values definitions) then null else inner.merge loc definitions;
        inherit (inner) getSubOptions;
      };
    either =
      a: b:
      type "${a.description} or ${b.description}" (value: a.check value || b.check value)
      // {
        merge =
          loc: definitions:
          (lib.head (
            lib.filter (t: lib.all t.check (values definitions)) [
              a
              b
              types.anything
            ]
          )).merge
            loc
            definitions;
      };
    oneOf = list: lib.foldl' types.either (lib.head list) (lib.tail list);

    listOf =
      inner:
      type "list of ${inner.description}" lib.isList
      // {
        merge =
          loc: definitions:
          let
            items = lib.concatMap (
              definition: map (value: definition // { inherit value; }) definition.value
            ) definitions;
          in
          lib.concatMap (item: (lib.mergeDefinitions loc inner [ item ]).optional) items;
      };
    attrsOf =
      inner:
      type "attribute set of ${inner.description}" lib.isAttrs
      // {
        merge =
          loc: definitions:
          let
            all = lib.zipAttrsWith (name: lib.mergeDefinitions (loc ++ [ name ]) inner) (
              map (
                definition: lib.mapAttrs (_: value: definition // { inherit value; }) definition.value
              ) definitions
            );
          in
          lib.mapAttrs (_: merged: merged.value) (lib.filterAttrs (_: merged: merged.isDefined) all);
      };

    submodule =
      module:
      type "submodule" (value: lib.isAttrs value || builtins.isFunction value)
      // {
        merge =
          loc: definitions:
          (lib.evalModules {
            prefix = loc;
            specialArgs.name = lib.last loc;
            modules = [
              module
            ]
            ++ map (definition: {
              _file = definition.file;
              imports = [ definition.value ];
            }) definitions;
          }).config;
      };
  };
in
{
  inherit types;
}

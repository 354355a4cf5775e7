# Modules: declarations of options, definitions that are merged by type, and
# errors for what does not fit, in the words of nixpkgs.
lib:
let
  inherit (builtins) isAttrs isFunction isPath;

  showOption = lib.concatStringsSep ".";
  typeOf = value: value._type or null;

  # --- wrappers of values ---
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  # A value as a list of plain ones with their priorities; conditions are asked here.
  discharge =
    definition:
    let
      inherit (definition) value;
      again = inner: discharge (definition // { value = inner; });
    in
    if typeOf value == "merge" then
      lib.concatMap again value.contents
    else if typeOf value == "if" then
      if !builtins.isBool value.condition then
        throw "mkIf called with a non-Boolean condition"
      else
        lib.optionals value.condition (again value.content)
    else if typeOf value == "override" then
      map (inner: inner // { inherit (value) priority; }) (again value.content)
    else
      [ ({ priority = 100; } // definition) ];

  mergeDefinitions =
    loc: type: definitions:
    let
      all = lib.concatMap discharge definitions;
      strongest = lib.foldl' (low: d: if d.priority < low then d.priority else low) 9999 all;
      kept = lib.filter (d: d.priority == strongest) all;
      wrong = lib.filter (d: !type.check d.value) kept;
      value =
        if kept == [ ] then
          throw "The option `${showOption loc}' is used but not defined."
        else if wrong != [ ] then
          throw "A definition for option `${showOption loc}' is not of type `${type.description}'. Definition values:\n- In `${(lib.head wrong).file}'"
        else
          type.merge loc kept;
    in
    {
      inherit value;
      isDefined = kept != [ ];
      optional = lib.optional (kept != [ ]) value;
    };

  # Conditions move down to the leaves: what a set has in it does not depend on them.
  pushDown =
    value:
    if typeOf value == "merge" then
      lib.concatMap pushDown value.contents
    else if typeOf value == "if" || typeOf value == "override" then
      map (lib.mapAttrs (_: inner: value // { content = inner; })) (pushDown value.content)
    else
      [ value ];

  # --- modules ---
  normalise =
    args: file: module:
    let
      named = if isPath module || builtins.isString module then toString module else file;
      loaded = if isPath module || builtins.isString module then import module else module;
      # Each argument by its name, so that `config` is not asked for before it is used.
      called =
        if isFunction loaded then
          loaded (
            args
            // lib.mapAttrs (name: _: args.${name} or (throw "module argument `${name}' is not there")) (
              builtins.functionArgs loaded
            )
          )
        else
          loaded;
      known = [
        "_file"
        "key"
        "imports"
        "options"
        "config"
        "meta"
      ];
      structured = called ? options || called ? config;
      unknown = lib.subtractLists known (lib.attrNames called);
      here = called._file or named;
    in
    if !isAttrs called then
      throw "Module `${named}' is not an attribute set"
    else if structured && unknown != [ ] then
      throw "Module `${here}' has an unsupported attribute `${lib.head unknown}'."
    else
      lib.concatMap (normalise args here) (called.imports or [ ])
      ++ [
        {
          file = here;
          options = called.options or { };
          config = if structured then called.config or { } else removeAttrs called known;
        }
      ];

  isOption = value: typeOf value == "option";

  mergeOptions =
    loc: a: b:
    lib.zipAttrsWith
      (
        name: found:
        let
          here = loc ++ [ name ];
        in
        if builtins.length found == 1 then
          lib.head found
        else if lib.any isOption found then
          throw "The option `${showOption here}' is declared twice."
        else
          lib.foldl' (mergeOptions here) { } found
      )
      [
        a
        b
      ];

  evalModules =
    {
      modules,
      prefix ? [ ],
      specialArgs ? { },
    }:
    let
      args = {
        inherit lib options;
        config = values;
      }
      // specialArgs;
      all = lib.concatMap (normalise args "<unknown>") modules;
      options = lib.foldl' (mergeOptions prefix) { } (map (module: module.options) all);
      definitions = map (module: {
        inherit (module) file;
        value = module.config;
      }) all;

      pushed = lib.concatMap (
        definition: map (value: definition // { inherit value; }) (pushDown definition.value)
      );
      under =
        name: list:
        map (definition: definition // { value = definition.value.${name}; }) (
          lib.filter (definition: definition.value ? ${name}) list
        );

      build =
        loc: declared: found:
        let
          plain = pushed found;
        in
        lib.mapAttrs (
          name: option:
          let
            here = loc ++ [ name ];
            given = under name plain;
            default = lib.optional (option ? default) {
              file = "the default";
              priority = 1500;
              value = option.default;
            };
          in
          if isOption option then
            (mergeDefinitions here option.type (given ++ default)).value
          else
            build here option given
        ) declared;

      # What is defined but not declared.
      strays =
        loc: declared: found:
        let
          plain = pushed found;
        in
        lib.concatMap (
          definition:
          lib.concatMap (
            name:
            let
              here = loc ++ [ name ];
              inner = [ (definition // { value = definition.value.${name}; }) ];
            in
            if !declared ? ${name} then
              [ "The option `${showOption here}' does not exist. Definition values:\n- In `${definition.file}'" ]
            else if isOption declared.${name} then
              [ ]
            else
              strays here declared.${name} inner
          ) (lib.attrNames definition.value)
        ) plain;

      values = build prefix options definitions;
      stray = strays prefix options definitions;
    in
    {
      inherit options;
      config = if stray == [ ] then values else throw (lib.head stray);
    };
in
{
  inherit
    evalModules
    mergeDefinitions
    mkIf
    mkMerge
    mkOverride
    showOption
    ;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  mkOption =
    option:
    let
      unknown = lib.subtractLists [
        "default"
        "defaultText"
        "description"
        "example"
        "internal"
        "readOnly"
        "type"
        "visible"
      ] (lib.attrNames option);
    in
    if unknown != [ ] then
      throw "mkOption: unknown attribute `${lib.head unknown}'"
    else
      {
        _type = "option";
        type = lib.types.anything;
      }
      // option;
  mkEnableOption = what: {
    _type = "option";
    type = lib.types.bool;
    default = false;
    description = "Whether to enable ${what}.";
  };
  mkPackageOption = pkgs: name: _: {
    _type = "option";
    type = lib.types.package;
    default = pkgs.${name};
    description = "The ${name} package to use.";
  };
}

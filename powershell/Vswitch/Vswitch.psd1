@{
    RootModule           = 'Vswitch.psm1'
    ModuleVersion        = '0.2.0'
    GUID                 = '6f0c2f0e-9d3e-4a51-8a0e-2f6a3c9d7b14'
    Author               = 'The vswitch maintainers'
    Description          = 'Reads and changes the port ACLs of a Hyper-V host: export, apply a plan, undo, confirm.'
    PowerShellVersion    = '5.1'
    CompatiblePSEditions = @('Desktop')
    FunctionsToExport    = @(
        'Confirm-VswitchPlan',
        'Export-VswitchState',
        'Get-VswitchBackup',
        'Invoke-VswitchOperation',
        'Invoke-VswitchPlan',
        'Undo-VswitchPlan'
    )
    CmdletsToExport      = @()
    VariablesToExport    = @()
    AliasesToExport      = @()
}
